/* Browsers refuse workers to pages opened from disk. There, a hidden frame takes the worker's place, so that the
   search works without a server. */
if (window.location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = "<!doctype html>"
      frame.onload = () => this.start(frame.contentWindow, new URL(address, document.baseURI))
      document.documentElement.appendChild(frame)
    }

    start(place, address) {
      if (this.place) return
      this.place = place
      const load = source => new Promise((done, failed) => {
        const script = place.document.createElement("script")
        script.src = new URL(source, address)
        script.onload = done
        script.onerror = failed
        place.document.head.appendChild(script)
      })
      place.importScripts = (...sources) => Promise.all(sources.map(load))
      place.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}))
      if (typeof window.__index !== "undefined") place.__index = window.__index
      load(address).then(() => {
        for (const data of this.waiting.splice(0)) this.deliver(data)
        this.ready = true
      })
    }

    deliver(data) {
      this.place.dispatchEvent(new this.place.MessageEvent("message", {data}))
    }

    postMessage(data) {
      if (this.ready) this.deliver(data)
      else this.waiting.push(data)
    }

    terminate() {}
  }
}
