import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, type TestContext } from "vitest";
import { hostFiles } from "../../src/guest/index.ts";
import { initrdWith, program, stockGuest } from "./harness/find-guest.ts";
import { GuestShell } from "./harness/guest-shell.ts";
import { buildFloatProgram, hostAnswer } from "./harness/host-answer.ts";
import { linuxConfig, machineFile, scratch } from "./harness/machine-file.ts";

const CORPUS = "/opt/corpus";
const CORPUS_MIB = 20;

/** Text and noise in which compressors find something to do, the same every time. */
function corpus(): Uint8Array {
  const bytes = new Uint8Array(CORPUS_MIB * 2 ** 20);
  const words = ["the ", "machine ", "page ", "fault\n", "0x", "interrupt ", "clock "].map((word) =>
    new TextEncoder().encode(word),
  );
  let seed = 12345;
  for (let at = 0; at < bytes.length; ) {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    const word = words[(seed >>> 16) % 9];
    if (word === undefined || at + word.length > bytes.length) bytes[at++] = seed >>> 24;
    else {
      bytes.set(word, at);
      at += word.length;
    }
  }
  return bytes;
}

const SMALL = "seq 1 100000";

const guest = await stockGuest("cloud");

describe.each([1, 2])("programs on %i vCPUs", (vcpus) => {
  let shell: GuestShell | undefined;
  let directory: Awaited<ReturnType<typeof scratch>> | undefined;
  let float: string | undefined;

  beforeAll(async () => {
    if ("missing" in guest) throw new Error(guest.missing);
    directory = await scratch();
    float = await buildFloatProgram(directory.path);
    const text = join(directory.path, "corpus");
    await writeFile(text, corpus());
    const extra = float === undefined ? [] : await program(float, "/opt/float");
    extra.push(...(await hostFiles(text, CORPUS)));
    const files = await initrdWith(guest.files, extra, join(directory.path, "initrd.img"));
    const file = await machineFile(directory.path, linuxConfig({ ...files, vcpus, mib: 512 }));
    shell = await GuestShell.boot([file, "--timeout", "3000"]);
  });

  afterAll(async () => {
    const end = await shell?.end();
    await directory?.[Symbol.asyncDispose]();
    expect(end).toMatchObject({ code: 0, err: "" });
  });

  /** The same command on both sides. */
  const same = async (
    context: TestContext,
    command: string,
    needs: readonly string[] = [],
  ): Promise<void> => {
    for (const path of needs) context.skip(!existsSync(path), `this host has no ${path}`);
    const answer = await shell!.ask(command);
    expect(answer).not.toBe("");
    expect(answer).toBe(await hostAnswer(command));
  };

  for (const name of ["sha256sum", "md5sum"])
    it(`busybox ${name}`, (context) => same(context, `${SMALL} | ${name}`));

  for (const name of ["sha256sum", "md5sum", "sort"]) {
    const path = `/usr/bin/${name}`;
    it(`Debian's dynamic ${name}`, (context) => same(context, `${SMALL} | ${path} | md5sum`, [path]));
  }

  it("gzip -9 and gunzip bring data back", (context) =>
    same(context, `${SMALL} | /usr/bin/gzip -n9 | md5sum; ${SMALL} | gzip -9 | gunzip | md5sum`, [
      "/usr/bin/gzip",
    ]));

  it(`xz of ${CORPUS_MIB} MiB`, async (context) => {
    context.skip(!existsSync("/usr/bin/xz"), "this host has no /usr/bin/xz");
    const packed = join(directory!.path, "packed");
    const command = (text: string, to: string): string =>
      `md5sum < ${text}; /usr/bin/xz -T1 -1 < ${text} > ${to}; md5sum < ${to}; /usr/bin/xz -d < ${to} | md5sum`;
    expect(await shell!.ask(command(CORPUS, "/tmp/packed"))).toBe(
      await hostAnswer(command(join(directory!.path, "corpus"), packed)),
    );
  });

  it("bc", (context) =>
    same(context, "echo 'scale=120; 4*a(1); e(1.5); s(0.3); l(7); j(2,3)' | /usr/bin/bc -l", [
      "/usr/bin/bc",
    ]));

  it("floating point in awk", (context) =>
    same(
      context,
      "/usr/bin/mawk 'BEGIN { for (i = 1; i < 3000; i++) { s += sin(i) * exp(-i / 100) * log(i) * sqrt(i); " +
        't += atan2(i, 3) * cos(i) } printf "%.17g %.17g\\n", s, t }\'',
      ["/usr/bin/mawk"],
    ));

  it("libm and rounding modes in C", async (context) => {
    context.skip(float === undefined, "no C compiler on this host");
    expect(await shell!.ask("/opt/float")).toBe(await hostAnswer(float!));
  });

  it("a storm of forks and pipes", async () => {
    const storm =
      "i=0; while [ $i -lt 300 ]; do echo $i | cat | tr -d x | cat >> /tmp/storm.$((i % 7)) & i=$((i+1)); done; wait; " +
      "sort -n /tmp/storm.* | md5sum; rm /tmp/storm.*";
    expect(await shell!.ask(storm)).toBe(await hostAnswer("seq 0 299 | md5sum"));
  });

  it("dd to tmpfs", (context) =>
    same(
      context,
      "dd if=/dev/zero bs=1M count=40 of=/tmp/zeroes 2>/dev/null; wc -c < /tmp/zeroes; " +
        "sha1sum < /tmp/zeroes; rm /tmp/zeroes",
    ));

  it("sleep 5 takes five seconds of the host, and date advances with it", async () => {
    const started = performance.now();
    const [before = NaN, after = NaN] = (await shell!.ask("date +%s; sleep 5; date +%s"))
      .split("\n")
      .map(Number);
    const tookMs = performance.now() - started;
    expect(tookMs).toBeGreaterThanOrEqual(5000 - 1);
    expect(after - before).toBeGreaterThanOrEqual(5);
    expect(after - before).toBeLessThanOrEqual(6);
    const uptime = await shell!.ask("read a b < /proc/uptime; sleep 5; read c d < /proc/uptime; echo $a $c");
    const [from = NaN, to = NaN] = uptime.split(" ").map(Number);
    expect(Math.abs(to - from - 5)).toBeLessThanOrEqual(0.2);
    expect(Math.abs(after - Date.now() / 1000)).toBeLessThan(15);
  });

  it("the kernel found nothing to complain of", async () => {
    const { text } = await shell!.run("dmesg | grep -iE 'call trace|bug:|rcu.*stall|lockup|segfault|trap'");
    expect(text).toBe("");
  });
});
