"""Pages, pictures and definitions for BI tools, all from the results of athena_queries.sql."""

from pathlib import Path

# The style sheet that the report, the plots' index and the live page share.
PAGE_STYLE = Path(__file__).with_name("page.css")
