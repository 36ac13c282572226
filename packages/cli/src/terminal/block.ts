import type { Machine } from "@northbridge/core";
import { NorthbridgeError } from "@northbridge/core/contracts";
import { type DiskJobs, ManagedDisk, Qcow2Image } from "@northbridge/storage-qcow2";

/** Lets a job write the content of an encrypted disk in the clear. */
const PLAIN = "--plain";

/** The monitor's `block`. @throws what the job throws before it begins */
export async function block(machine: Machine, words: readonly string[]): Promise<string> {
  const [verb = "nothing", ...rest] = words;
  if (verb === "bitmap") {
    const [act = "", disk, ...names] = rest;
    return bitmap(diskOf(machine, disk), act, expectWords(names, ["NAME"]));
  }
  const [name, ...args] = rest.filter((word) => word !== PLAIN);
  const how = { plain: rest.includes(PLAIN) };
  if (how.plain && !["commit", "stream", "mirror", "backup"].includes(verb))
    throw wrong(`no ${PLAIN} behind block ${verb}`);
  switch (verb) {
    case "snapshot": {
      const [file] = expectWords(args, ["FILE"]);
      diskOf(machine, name).snapshot(file);
      return `on ${file} now`;
    }
    case "commit": {
      const jobs = diskOf(machine, name);
      const [image] = expectWords(args, [], ["IMAGE"]);
      jobs.commit(image, how);
      return begun(jobs);
    }
    case "stream": {
      const jobs = diskOf(machine, name);
      expectWords(args, []);
      jobs.stream(how);
      return begun(jobs);
    }
    case "mirror": {
      const jobs = diskOf(machine, name);
      const [to] = expectWords(args, ["FILE"]);
      await jobs.mirror(to, how);
      return begun(jobs);
    }
    case "backup": {
      const jobs = diskOf(machine, name);
      const [file, bitmapName, last] = expectWords(args, ["FILE"], ["BITMAP", "LAST"]);
      jobs.backup(file, bitmapName, last, how);
      return begun(jobs);
    }
    case "complete": {
      const jobs = diskOf(machine, name);
      const [stay] = expectWords(args, [], ["stay"]);
      if (stay !== undefined && stay !== "stay") throw wrong(`complete DISK [stay], found ${stay}`);
      await jobs.complete(stay === undefined);
      return status(jobs);
    }
    case "cancel": {
      const jobs = diskOf(machine, name);
      await jobs.cancel();
      return status(jobs);
    }
    case "status":
      return status(diskOf(machine, name));
    default:
      throw wrong(
        `block snapshot, commit, stream, mirror, backup, bitmap, complete, cancel or status, found ${verb}`,
      );
  }
}

const begun = (jobs: DiskJobs): string => `${jobs.last?.what ?? "nothing"} has begun`;

function status({ last }: DiskJobs): string {
  if (last === undefined) return "no job";
  const { what, state, done, total, error } = last;
  const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
  return `${what}: ${state}${state === "running" ? `, ${percent} %` : ""}${error === undefined ? "" : `: ${error}`}`;
}

function bitmap({ image }: DiskJobs, act: string, [name]: readonly [string]): string {
  if (!(image instanceof Qcow2Image)) throw new NorthbridgeError("NB_CONFIG", "the image has no bitmaps");
  switch (act) {
    case "add":
      image.bitmaps.add(name, 65536);
      break;
    case "remove":
      image.bitmaps.remove(name);
      break;
    case "clear":
      image.bitmaps.clear(name);
      break;
    default:
      throw wrong(`bitmap add, remove or clear, found ${act}`);
  }
  return `bitmaps: ${
    image.bitmaps
      .list()
      .map((each) => each.name)
      .join(", ") || "none"
  }`;
}

function diskOf(machine: Machine, name: string | undefined): DiskJobs {
  const disks = machine.hostEnds.flatMap((end) =>
    end.sort === "block" && end.backend instanceof ManagedDisk
      ? [{ name: `${end.device}.${end.option}`, jobs: end.backend.jobs }]
      : [],
  );
  const found = disks.find((disk) => disk.name === name);
  if (found === undefined) {
    const names = disks.map((disk) => disk.name).join(", ") || "none here";
    throw wrong(`a qcow2 disk (${names}), found ${name ?? "nothing"}`);
  }
  return found.jobs;
}

/** The words that a verb needs, then those that it may have. */
function expectWords<const Needed extends readonly string[], const More extends readonly string[] = []>(
  words: readonly string[],
  needed: Needed,
  more?: More,
): [...{ [K in keyof Needed]: string }, ...{ [K in keyof More]?: string }] {
  const most = needed.length + (more?.length ?? 0);
  if (words.length < needed.length || words.length > most) {
    const names = [...needed, ...(more ?? []).map((name) => `[${name}]`)].join(" ") || "nothing";
    throw wrong(`${names} behind the disk, found ${words.join(" ") || "nothing"}`);
  }
  return words as never;
}

const wrong = (expected: string): NorthbridgeError =>
  new NorthbridgeError("NB_CONFIG", `expected ${expected}`);
