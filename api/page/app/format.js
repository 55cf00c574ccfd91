// Times, durations and sizes for people.

import { now } from "./api.js";

const numbers = new Intl.NumberFormat("en");
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const clocks = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const shortDays = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const days = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });

export const number = (value) => numbers.format(value);
export const moment = (at) => moments.format(new Date(at));
export const clock = (at) => clocks.format(new Date(at));

/** The time in a given zone, as "Mon, 23 Nov 2026, 09:00"; in UTC if the browser lacks the zone. */
export function zoned(at, timeZone) {
  const wanted = {
    weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
  };
  try {
    return new Intl.DateTimeFormat("en-GB", { ...wanted, timeZone }).format(new Date(at));
  } catch {
    return `${new Intl.DateTimeFormat("en-GB", { ...wanted, timeZone: "UTC" }).format(new Date(at))} UTC`;
  }
}

function span(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** "3 min ago", "in 2 h"; a date beyond a week. */
export function ago(at) {
  const seconds = Math.floor((now() - Date.parse(at)) / 1000);
  const away = Math.abs(seconds);
  if (away >= 7 * 86_400) return away < 180 * 86_400 ? shortDays.format(new Date(at)) : days.format(new Date(at));
  if (seconds < 0) return `in ${span(away)}`;
  return seconds < 10 ? "just now" : `${span(seconds)} ago`;
}

export function duration(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.floor((ms % 60_000) / 1_000)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}

/** A short form of a duration. */
export function roughly(ms) {
  if (ms < 100) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return ms < 10_000 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 1_000)} s`;
  return span(Math.floor(ms / 1_000));
}

/** The time since `at`, in whole seconds. */
export function elapsed(at) {
  const ms = Math.max(0, now() - Date.parse(at));
  return ms < 60_000 ? `${Math.floor(ms / 1000)} s` : duration(ms);
}

export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
