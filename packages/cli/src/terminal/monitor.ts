import type { Machine } from "@northbridge/core";
import { info } from "./info.ts";
import { ring } from "./ring.ts";

/** What `block` takes, for the monitor's help. */
const BLOCK_HELP = `block VERB DISK …  change a qcow2 disk under its guest; DISK as in info block:
  snapshot DISK FILE                 go on in a new overlay
  commit DISK [IMAGE]                write what is above an image into it, and go on with that
  stream DISK                        copy what is below into the image on top
  mirror DISK FILE|nbd:unix:SOCKET   copy the disk; complete DISK [stay] goes on with the copy, or stays
  backup DISK FILE [BITMAP [LAST]]   copy the disk as it is now, or what changed since the backup LAST
  bitmap add|remove|clear DISK NAME  have writes noted from now on
  status DISK, cancel DISK           of the job under way
  copies of encrypted disks are encrypted alike; --plain behind a command lets it write in the clear`;

const HELP = [
  "status       state of the machine, why a device paused it, and guest time",
  "info WHAT    devices, or what they have opened of the host: block, char, directory, net, vsock",
  "link up ID   plug a network card's cable in; link down ID pulls it",
  "device ID …  ask a device: device disk resize 64M; device card limit toGuest bytesPerSecond 1000000",
  "ring read END       the last that a guest wrote to an end of kind ring; END as in info char",
  "ring write END TEXT  a line for the guest there",
  "stats        counters as JSON",
  "pause        stop the guest where it is",
  "resume       let it go on",
  "reset        reset the guest",
  "save DIR     save the machine to a new directory",
  "quit         end the machine",
  "help         this list",
  BLOCK_HELP,
].join("\n");

/** A machine's monitor: one command a line, one answer each. */
export class Monitor {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Carries out one line. A failure is an answer that begins with `error:`. */
  async execute(line: string): Promise<string> {
    const [command = "", ...args] = line.trim().split(/\s+/);
    try {
      return await this.#run(command, args, line.trim().slice(command.length).trim());
    } catch (error) {
      return `error: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  /** @param rest what follows the command, as it was typed */
  async #run(command: string, args: readonly string[], rest: string): Promise<string> {
    const machine = this.#machine;
    switch (command) {
      case "":
        return "";
      case "help":
        return HELP;
      case "status":
        return `${machine.state}${machine.pauseReason === undefined ? "" : `: ${machine.pauseReason}`}, guest time ${(machine.clock.nowNs() / 1e9).toFixed(3)} s`;
      case "device":
        return await this.#ofDevice(args);
      case "block":
        // Loaded by who asks: most machines have no such disk.
        return await (await import("./block.ts")).block(machine, args);
      case "info":
        return info(machine, args[0] ?? "nothing");
      case "link":
        return args[0] === "up" || args[0] === "down"
          ? await this.#ofDevice([args[1] ?? "", "link", args[0]])
          : `error: expected link up ID or link down ID, found ${args[0] ?? "nothing"}`;
      case "ring":
        return ring(machine, rest);
      case "stats":
        return JSON.stringify(machine.stats());
      case "pause":
        await machine.pause();
        return "paused";
      case "resume":
        await machine.resume();
        return "running";
      case "reset":
        machine.power.reset();
        return "reset";
      case "save":
        if (rest === "") return "error: expected save DIR";
        await machine.save(rest);
        return `saved to ${rest}`;
      case "quit":
        // Not awaited: ending the machine closes the monitor.
        void machine.stop();
        return "ending";
      default:
        return `error: no command "${command}"; try help`;
    }
  }

  async #ofDevice([id, ...words]: readonly string[]): Promise<string> {
    const devices = this.#machine.devices.filter(({ device }) => device.monitorCommand !== undefined);
    const answer = devices.find((device) => device.id === id)?.device.monitorCommand?.(words);
    if (answer !== undefined) return await answer;
    const ids = devices.map((device) => device.id).join(", ") || "none here";
    return `error: expected a device that takes commands (${ids}), found ${id ?? "nothing"}`;
  }
}
