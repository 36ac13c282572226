import type { SnapshotEntry } from "@northbridge/storage-qcow2";
import { humanSize } from "./sizes.ts";

/** The table of internal snapshots as qemu-img prints it. */
export function snapshotLines(entries: readonly SnapshotEntry[]): string[] {
  const row = (id: string, tag: string, size: string, date: string, clock: string, icount: string): string =>
    `${id.padEnd(9)} ${tag.padEnd(16)} ${size.padStart(8)} ${date.padStart(19)} ${clock.padStart(12)} ${icount.padStart(10)}`;
  return [
    "Snapshot list:",
    row("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT"),
    ...entries.map((entry) =>
      row(
        entry.id,
        entry.name,
        humanSize(entry.vmStateSize),
        localTime(entry.dateSec),
        clock(entry.vmClockNsec),
        entry.icount === undefined || entry.icount === 0xffffffffffffffffn ? "" : String(entry.icount),
      ),
    ),
  ];
}

const two = (value: number): string => String(value).padStart(2, "0");

function localTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function clock(nanoseconds: bigint): string {
  const seconds = Number(nanoseconds / 1000000000n);
  const millis = Number((nanoseconds % 1000000000n) / 1000000n);
  const hours = two(Math.floor(seconds / 3600));
  return `${hours}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${String(millis).padStart(3, "0")}`;
}
