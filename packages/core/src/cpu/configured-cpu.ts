import {
  type CpuConfig,
  cpuFeatureNames,
  type CpuidLeaf,
  type CpuModel,
  findCpuFeature,
  hasFeature,
  type Hypervisor,
  withFeature,
} from "../contracts/index.ts";
import { ConfigError, ConfigProblems } from "../config/config-error.ts";
import { didYouMean } from "../composition/did-you-mean.ts";

/** What of a backend decides which processors a machine can have. */
export type CpuChoice = Pick<Hypervisor, "name" | "cpuModels" | "unmetClaims">;

/** x87 and SSE state, 512 bytes and a header (Intel SDM 1 §13.2): what XSAVE manages in a model that only claims it. */
const XSAVE_LEAF: CpuidLeaf = { leaf: 0xd, subleaf: 0, eax: 3, ebx: 576, ecx: 576, edx: 0 };

/**
 * The processor that a config asks for; `undefined` where it asks for none, and the backend's default is the guest's.
 * Throws `ConfigError`, or `ConfigErrors`, for a model that the backend has not and for features by name that nobody
 * knows or the backend lacks.
 */
export function configuredCpu(cpu: CpuConfig | undefined, backend: CpuChoice): CpuModel | undefined {
  if (cpu === undefined) return undefined;
  const models = backend.cpuModels?.() ?? [];
  const [standard] = models;
  if (standard === undefined)
    throw new ConfigError("NB_CONFIG", "cpu", `the ${backend.name} backend has no CPU models to choose from`);
  const names = models.map(({ name }) => name);
  const base = cpu.model === undefined ? standard : models.find(({ name }) => name === cpu.model);
  if (base === undefined) {
    throw new ConfigError(
      "NB_CONFIG",
      "cpu.model",
      `expected a CPU model of the ${backend.name} backend (${names.join(", ")}), found "${cpu.model ?? ""}"${didYouMean(cpu.model ?? "", names)}`,
    );
  }
  let model = base;
  const problems = new ConfigProblems();
  for (const [name, isShown] of Object.entries(cpu.features ?? {})) {
    try {
      model = withOne(model, name, isShown, backend);
    } catch (error) {
      problems.note(error);
    }
  }
  problems.settle();
  const lacked = backend.unmetClaims?.(model) ?? [];
  if (lacked.length > 0) {
    throw new ConfigError(
      "NB_CONFIG",
      "cpu.model",
      `${base.name} has what the ${backend.name} backend lacks: ${lacked.join(", ")}; cpu.features can hide it`,
    );
  }
  return cpu.tscKhz === undefined ? model : { ...model, tscKhz: cpu.tscKhz };
}

/** What a snapshot's machine must agree in. */
export function describeCpu({ model, features = {}, tscKhz }: CpuConfig = {}): string {
  const changes = Object.entries(features).map(([name, isShown]) => change(name, isShown));
  const rate = tscKhz === undefined ? [] : [`tscKhz ${tscKhz}`];
  return [model ?? "the default model", ...changes.sort(), ...rate].join(" ");
}

const change = (name: string, isShown: boolean): string =>
  `${isShown ? "+" : "-"}${findCpuFeature(name)?.name ?? name}`;

function withOne(base: CpuModel, name: string, isShown: boolean, backend: CpuChoice): CpuModel {
  const where = `cpu.features.${name}`;
  const feature = findCpuFeature(name);
  if (feature === undefined) {
    throw new ConfigError(
      "NB_CONFIG",
      where,
      `expected a CPU feature, as /proc/cpuinfo names them, found "${name}"${didYouMean(name, cpuFeatureNames)}`,
    );
  }
  let leaves = withFeature(base.leaves, feature, isShown);
  if (isShown && feature.name === "xsave" && !leaves.some(({ leaf }) => leaf === XSAVE_LEAF.leaf))
    leaves = [...leaves, XSAVE_LEAF];
  const model = { name: `${base.name} ${change(name, isShown)}`, leaves };
  if (isShown) {
    const lackedBefore = backend.unmetClaims?.(base) ?? [];
    const lacked =
      backend.unmetClaims?.(model).filter((name) => !lackedBefore.includes(name)) ??
      (hasFeature(base, feature) ? [] : [feature.name]);
    if (lacked.length > 0)
      throw new ConfigError("NB_CONFIG", where, `the ${backend.name} backend lacks ${lacked.join(", ")}`);
  }
  return model;
}
