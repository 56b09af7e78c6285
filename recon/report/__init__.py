"""Pictures of images and convergence, and self-contained HTML reports made of them."""

from recon.report.figures import save_png as save_png
from recon.report.gallery import common_differences as common_differences
from recon.report.gallery import grey_figures as grey_figures
from recon.report.gallery import viewer_of as viewer_of
from recon.report.html import Figure as Figure
from recon.report.html import Record as Record
from recon.report.html import Report as Report
from recon.report.html import Section as Section
from recon.report.html import Table as Table
from recon.report.html import difference_figure as difference_figure
from recon.report.html import grey_figure as grey_figure
from recon.report.html import write_report as write_report
from recon.report.methods import score_table as score_table
from recon.report.solution import comparison_report as comparison_report
from recon.report.solution import solution_report as solution_report
from recon.report.strip import save_comparison as save_comparison
