import { existsSync } from "node:fs";
import { join } from "node:path";
import { createMachine, RingBuffer, WatchedConsole } from "@northbridge/core";
import type { EmulationFailureHook } from "@northbridge/kvm-backend";
import { kvmHypervisor, probeKvm } from "@northbridge/kvm-backend";
import { describe, expect, it } from "vitest";
import { builtInRegistry } from "./built-in.ts";
