"""Make samples/daily_prices.csv from the sample data of the bokeh_sampledata package (in requirements-dev.txt).

python samples/make_samples.py
"""

from pathlib import Path

import pandas as pd
from bokeh_sampledata import stocks

COMPANIES = {"AAPL": "Apple", "FB": "Facebook", "GOOG": "Google", "IBM": "IBM", "MSFT": "Microsoft"}
# FB was listed in May 2012; the others are cut to six years so that the file stays small.
FIRST_DAY, LAST_DAY = "2008-01-01", "2013-12-31"


def main() -> None:
    frames = []
    for symbol, company in COMPANIES.items():
        frame = pd.DataFrame(getattr(stocks, symbol))
        frame = frame[(frame["date"] >= FIRST_DAY) & (frame["date"] <= LAST_DAY)]
        frames.append(frame.assign(company=company, symbol=symbol))
    prices = pd.concat(frames)[["date", "open", "high", "low", "close", "volume", "company", "symbol"]]
    prices.columns = ["Date", "Open", "High", "Low", "Close", "Volume", "Company Name", "Symbol"]
    prices.sort_values(["Date", "Symbol"]).to_csv(Path(__file__).with_name("daily_prices.csv"), index=False)


if __name__ == "__main__":
    main()
