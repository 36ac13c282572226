import { DONT_CARE } from "./spec.ts";

const SECONDS_PER_DAY = 86_400;

/** An alarm time; a field of `undefined` matches anything. */
export interface AlarmTime {
  readonly second: number | undefined;
  readonly minute: number | undefined;
  readonly hour: number | undefined;
}

/** The first second (since 1970) from `from` on whose time of day matches; `Infinity` where none ever does. */
export function nextAlarm(alarm: AlarmTime, from: number): number {
  const { second = 0, minute = 0, hour = 0 } = alarm;
  if (second > 59 || minute > 59 || hour > 23) return Infinity;
  const dayStart = Math.floor(from / SECONDS_PER_DAY) * SECONDS_PER_DAY;
  let time = from - dayStart;
  while (time < 2 * SECONDS_PER_DAY) {
    const ofDay = time % SECONDS_PER_DAY;
    if (alarm.hour !== undefined && Math.floor(ofDay / 3600) !== alarm.hour) time += 3600 - (ofDay % 3600);
    else if (alarm.minute !== undefined && Math.floor(ofDay / 60) % 60 !== alarm.minute)
      time += 60 - (ofDay % 60);
    else if (alarm.second !== undefined && ofDay % 60 !== alarm.second) time += 1;
    else return dayStart + time;
  }
  return Infinity;
}

export const isDontCare = (raw: number): boolean => raw >= DONT_CARE;
