import type { DescriptorChain } from "@northbridge/sdk/virtio";
import type { LogicalUnit } from "./logical-unit.ts";
import { lunOf, targetOf } from "./lun.ts";
import { AsyncNotification, ControlType, ResponseCode, Tmf, TmfSubtype } from "./spec.ts";
import type { Task, TaskSet } from "./task.ts";

/** A control request's answer: its bytes, now or once the commands it ends are over. */
export interface ControlAnswer {
  readonly bytes: Uint8Array;
  readonly after: Promise<void> | undefined;
}

/**
 * Task management and asynchronous notification (virtio 1.3 §5.6.6.2). A command that the host is working on cannot be
 * taken back: one that is aborted ends when the host has finished, and the request that aborted it after it.
 */
export class TaskManagement {
  readonly #units: readonly LogicalUnit[];
  readonly #tasks: TaskSet;

  constructor(units: readonly LogicalUnit[], tasks: TaskSet) {
    this.#units = units;
    this.#tasks = tasks;
  }

  /** Undefined where the request is none. */
  answer(chain: DescriptorChain): ControlAnswer | undefined {
    switch (chain.readU32(Tmf.TYPE)) {
      case ControlType.TMF:
        if (chain.readableBytes < Tmf.LENGTH || chain.writableBytes < 1) return undefined;
        return this.#manage(chain);
      case ControlType.AN_QUERY:
      case ControlType.AN_SUBSCRIBE: {
        if (chain.readableBytes < AsyncNotification.LENGTH) return undefined;
        if (chain.writableBytes < AsyncNotification.ANSWER_LENGTH) return undefined;
        const bytes = new Uint8Array(AsyncNotification.ANSWER_LENGTH); // of no events
        bytes[AsyncNotification.RESPONSE] =
          this.#unit(chain) === undefined ? ResponseCode.BAD_TARGET : ResponseCode.OK;
        return { bytes, after: undefined };
      }
      default:
        return undefined;
    }
  }

  #unit(chain: DescriptorChain): LogicalUnit | undefined {
    const target = targetOf(chain, Tmf.LUN);
    return target === undefined ? undefined : this.#units[target];
  }

  #manage(chain: DescriptorChain): ControlAnswer {
    const target = targetOf(chain, Tmf.LUN);
    const unit = this.#unit(chain);
    if (target === undefined || unit === undefined) return respond(ResponseCode.BAD_TARGET);
    const subtype = chain.readU32(Tmf.SUBTYPE);
    if (subtype !== TmfSubtype.I_T_NEXUS_RESET && lunOf(chain, Tmf.LUN) !== 0) {
      return respond(ResponseCode.INCORRECT_LUN);
    }
    const named = this.#tasks.find(target, chain.readU32(Tmf.ID), chain.readU32(Tmf.ID + 4));
    const all = this.#tasks.of(target);
    switch (subtype) {
      case TmfSubtype.ABORT_TASK:
        return this.#end(named === undefined ? [] : [named], ResponseCode.ABORTED);
      case TmfSubtype.ABORT_TASK_SET:
      case TmfSubtype.CLEAR_TASK_SET:
        return this.#end(all, ResponseCode.ABORTED);
      case TmfSubtype.I_T_NEXUS_RESET:
      case TmfSubtype.LOGICAL_UNIT_RESET:
        unit.reset();
        return this.#end(all, ResponseCode.RESET);
      case TmfSubtype.QUERY_TASK:
        return respond(named === undefined ? ResponseCode.OK : ResponseCode.FUNCTION_SUCCEEDED);
      case TmfSubtype.QUERY_TASK_SET:
        return respond(all.length === 0 ? ResponseCode.OK : ResponseCode.FUNCTION_SUCCEEDED);
      default:
        return respond(ResponseCode.FUNCTION_REJECTED);
    }
  }

  /** @param response of the commands (§5.6.6.1) */
  #end(tasks: readonly Task[], response: number): ControlAnswer {
    for (const task of tasks) task.ended ??= response;
    return respond(ResponseCode.OK, this.#tasks.over(tasks));
  }
}

const respond = (code: number, after?: Promise<void>): ControlAnswer => ({
  bytes: Uint8Array.of(code),
  after,
});
