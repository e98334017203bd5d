#!/bin/sh
# What `make demo` shows: each command as a user would type it, from a CSV of real prices to a page.
set -e
PATH="$PWD/.venv/bin:$PATH"

step() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

step python glue_setup.py --with-roles
step python producer.py replay samples/daily_prices.csv
step python consumer.py --until-caught-up
step python consumer.py verify
step python -m pipeline.athena volume_by_ticker
step python -m dashboards.report

printf '\nThe page is %s/report.html; the stack runs on (make down stops it).\n' "$PWD"
