/** A date and time of the Gregorian calendar, UTC. */
export interface CalendarTime {
  second: number;
  minute: number;
  hour: number;
  /** 1–31. */
  day: number;
  /** 1–12. */
  month: number;
  year: number;
}

const SECONDS_PER_DAY = 86_400;
/** Days from 1970-01-01 back to 0000-03-01, from where years of 365.2425 days count. */
const EPOCH_DAYS = 719_468;
const DAYS_PER_400_YEARS = 146_097;

/** Seconds since 1970. Fields beyond their range carry over. */
export function secondsOf(time: Readonly<CalendarTime>): number {
  const year = time.year - (time.month <= 2 ? 1 : 0);
  const era = Math.floor(year / 400);
  const yearOfEra = year - era * 400;
  const dayOfYear = Math.floor((153 * (time.month + (time.month > 2 ? -3 : 9)) + 2) / 5) + time.day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  const days = era * DAYS_PER_400_YEARS + dayOfEra - EPOCH_DAYS;
  return days * SECONDS_PER_DAY + time.hour * 3600 + time.minute * 60 + time.second;
}

/** Fills `into` with the date and time of `seconds` since 1970. */
export function fillCalendar(seconds: number, into: CalendarTime): void {
  const days = Math.floor(seconds / SECONDS_PER_DAY);
  const rest = seconds - days * SECONDS_PER_DAY;
  into.second = rest % 60;
  into.minute = Math.floor(rest / 60) % 60;
  into.hour = Math.floor(rest / 3600);
  const shifted = days + EPOCH_DAYS;
  const era = Math.floor(shifted / DAYS_PER_400_YEARS);
  const dayOfEra = shifted - era * DAYS_PER_400_YEARS;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const shiftedMonth = Math.floor((5 * dayOfYear + 2) / 153);
  into.day = dayOfYear - Math.floor((153 * shiftedMonth + 2) / 5) + 1;
  into.month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9;
  into.year = yearOfEra + era * 400 + (into.month <= 2 ? 1 : 0);
}

/** 1 is Sunday, as the MC146818 counts. */
export function dayOfWeek(seconds: number): number {
  const thursday = 4;
  return ((((Math.floor(seconds / SECONDS_PER_DAY) + thursday) % 7) + 7) % 7) + 1;
}
