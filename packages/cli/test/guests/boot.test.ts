import { createHash } from "node:crypto";
import { join } from "node:path";
import { expect, it } from "vitest";
import { exampleGuest, initrdWith, installed, program } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const guest = await exampleGuest();
const BOOT_MS = 300_000;

/** `seq FIRST LAST` of coreutils. */
const seq = (last: number): string => Array.from({ length: last }, (_, index) => `${index + 1}\n`).join("");

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

it("boots a stock kernel on two processors whose programs give the host's answers", {
  timeout: BOOT_MS,
}, async (context) => {
  if ("missing" in guest) return context.skip(guest.missing);
  await using directory = await scratch();
  const [dynamic] = await installed(["sha256sum"]);
  const extra = dynamic === undefined ? [] : await program(dynamic, "/opt/sha256sum");
  const files = await initrdWith(guest.files, extra, join(directory.path, "initrd.img"));
  const machine = await machineFile(directory.path, linuxConfig({ ...files, vcpus: 2 }));
  await using shell = await GuestShell.boot([machine, "--backend", "auto", "--timeout", "280"]);

  expect(await shell.ask("uname -m")).toBe("x86_64");
  expect(await shell.ask("nproc")).toBe("2");
  const numbers = seq(20_000);
  expect(await shell.ask("seq 20000 | sha256sum")).toContain(sha256(numbers));
  expect(await shell.ask("seq 20000 | gzip -9 | gunzip | md5sum")).toContain(
    createHash("md5").update(numbers).digest("hex"),
  );
  if (dynamic !== undefined) expect(await shell.ask("seq 20000 | /opt/sha256sum")).toContain(sha256(numbers));
  expect(
    await shell.ask("for i in 1 2 3 4 5 6 7 8; do echo $i | cat | cat & done | sort | tr -d '\\n'"),
  ).toBe("12345678");
  expect(
    await shell.ask("dd if=/dev/zero bs=64k count=64 of=/tmp/zeroes 2>/dev/null; sha256sum /tmp/zeroes"),
  ).toContain(sha256("\0".repeat(64 * 65_536)));
  // Both processors work, and the kernel found nothing to complain of.
  expect(await shell.ask("grep -c '^cpu[01] ' /proc/stat")).toBe("2");
  expect(await shell.run("dmesg | grep -iE 'call trace|bug:|rcu.*stall|soft lockup|unstable'")).toMatchObject(
    {
      status: 1,
      text: "",
    },
  );

  // One line says which backend it was, and why: KVM where that runs stock kernels.
  expect(await shell.end()).toMatchObject({
    code: 0,
    err: expect.stringMatching(
      /^northbridge: backend: (the software CPU, since|KVM, which executes) [^\n]+\n$/,
    ) as unknown,
  });
});
