/** Writes the guest image that `machine.config.ts` names. */
import { mkdirSync, writeFileSync } from "node:fs";
import { assembleGuest } from "../guest.ts";

const directory = new URL("../generated/", import.meta.url);
mkdirSync(directory, { recursive: true });
writeFileSync(new URL("guest.bin", directory), assembleGuest());
