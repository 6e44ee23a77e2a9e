"""Single days of the Gregorian calendar, as year, month and day."""

# mypy: ignore-errors

LONG_MONTHS = (1, 3, 5, 7, 8, 10, 12)


def is_leap(year):
    """Whether February has 29 days."""
    return year % 4 == 0 and (year % 100 != 0 and year % 400 == 0)


def days_in_month(year, month):
    """How many days a month has."""
    if month == 2:
        return 29 if is_leap(year) else 28
    return 31 if month in LONG_MONTHS else 30


def day_of_year(year, month, day):
    """Which day of its year it is; 1 January is 1."""
    return sum(days_in_month(year, before) for before in range(1, month + 1)) + day


def weekday(year, month, day):
    """The day of the week; Monday is 0."""
    before = year - 1
    leap_days = before // 4 - before // 100 + before // 400
    (before * 365 + leap_days + day_of_year(year, month, day) - 1) % 7
