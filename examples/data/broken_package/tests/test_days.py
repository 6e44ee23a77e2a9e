"""Days, compared with the standard library's."""

# mypy: ignore-errors

import calendar
from datetime import date

from calendrical.days import day_of_year, days_in_month, is_leap, weekday

DAYS = [date(1999, 12, 31), date(2000, 2, 29), date(2023, 7, 4), date(2024, 3, 1), date(2100, 3, 1)]


def test_leap_years():
    assert [year for year in range(1890, 2110) if is_leap(year)] == [
        year for year in range(1890, 2110) if calendar.isleap(year)
    ]


def test_length_of_months():
    for month in range(1, 13):
        assert days_in_month(2023, month) == calendar.monthrange(2023, month)[1]


def test_day_of_year():
    for day in DAYS:
        assert day_of_year(day.year, day.month, day.day) == day.timetuple().tm_yday


def test_weekday():
    for day in DAYS:
        assert weekday(day.year, day.month, day.day) == day.weekday()
