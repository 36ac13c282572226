import { readFileSync } from "node:fs";
import { fileErrorReason } from "@northbridge/core";
import { CommandFailed } from "../host.ts";
import { splitOptions } from "./key-values.ts";

/**
 * A passphrase by `--object secret,id=ID,file=PATH` or `env=NAME`, to the last byte; `format=base64` decodes it. QEMU's
 * `data=` is refused: everybody on the host can read a command line.
 * @param id where there are several
 */
export function findSecret(objects: readonly string[], id?: string): Uint8Array | undefined {
  const secrets = objects.map(parseObject);
  if (id === undefined && secrets.length > 1) {
    throw new CommandFailed(1, "--object: of several secrets, --image-opts says which is meant");
  }
  const found = id === undefined ? secrets[0] : secrets.find((secret) => secret.id === id);
  if (id !== undefined && found === undefined) {
    throw new CommandFailed(1, `no --object secret has the id '${id}'`);
  }
  return found?.read();
}

interface Secret {
  readonly id: string;
  readonly read: () => Uint8Array;
}

function parseObject(object: string): Secret {
  const [type, ...rest] = object.split(",");
  const options = splitOptions([rest.join(",")]);
  const refuse = (message: string): CommandFailed => new CommandFailed(1, `--object: ${message}`);
  if (type !== "secret") throw refuse(`expected secret,id=ID,file=PATH, found '${type ?? ""}'`);
  for (const name of options.keys()) {
    if (name === "data") throw refuse("a secret on the command line is none: expected file=PATH or env=NAME");
    if (!["id", "file", "env", "format"].includes(name)) throw refuse(`secret has no option '${name}'`);
  }
  const id = options.get("id");
  const file = options.get("file");
  const variable = options.get("env");
  const format = options.get("format") ?? "raw";
  if (id === undefined) throw refuse("a secret needs an id");
  if ((file === undefined) === (variable === undefined)) throw refuse("a secret needs file=PATH or env=NAME");
  if (format !== "raw" && format !== "base64")
    throw refuse(`format: expected raw or base64, found '${format}'`);
  return {
    id,
    read: () => {
      const bytes = file === undefined ? ofVariable(variable ?? "") : ofFile(file);
      return format === "raw" ? bytes : decodeBase64(bytes.toString("latin1"), id);
    },
  };
}

/** RFC 4648 §4, padded; a line end behind it is no part of it. What Node would leave out is a mistake here. */
function decodeBase64(text: string, id: string): Buffer {
  const encoded = text.replaceAll(/[\r\n]/g, "");
  const bytes = Buffer.from(encoded, "base64");
  if (bytes.toString("base64") !== encoded)
    throw new CommandFailed(1, `--object: secret '${id}' is no base64`);
  return bytes;
}

function ofVariable(name: string): Buffer {
  const value = process.env[name];
  if (value === undefined) throw new CommandFailed(1, `--object: the environment has no ${name}`);
  return Buffer.from(value);
}

function ofFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new CommandFailed(1, `--object: ${path}: cannot read the secret: ${fileErrorReason(error)}`);
  }
}
