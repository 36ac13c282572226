/** SCSI host device. Names and numbers: virtio 1.3 §5.6. */

export const Feature = { CHANGE: 2 } as const;

export const Queue = { CONTROL: 0, EVENT: 1, REQUEST: 2 } as const;

/** struct virtio_scsi_config (§5.6.4). */
export const Config = {
  NUM_QUEUES: 0,
  SEG_MAX: 4,
  MAX_SECTORS: 8,
  CMD_PER_LUN: 12,
  EVENT_INFO_SIZE: 16,
  SENSE_SIZE: 20,
  CDB_SIZE: 24,
  MAX_CHANNEL: 28,
  MAX_TARGET: 30,
  MAX_LUN: 32,
  LENGTH: 36,
} as const;

/** Sizes until a driver writes others (§5.6.4), and the largest taken. */
export const CDB_SIZE = 32;
export const SENSE_SIZE = 96;
export const MAX_CDB_SIZE = 260;
export const MAX_SENSE_SIZE = 252;

/** A command: its fixed part, then the CDB, then data to the device (§5.6.6.1). */
export const Request = { LUN: 0, ID: 8, TASK_ATTR: 16, PRIO: 17, CRN: 18, CDB: 19 } as const;
/** Its answer: a fixed part, then sense data, then data from the device. */
export const Response = {
  SENSE_LEN: 0,
  RESIDUAL: 4,
  STATUS_QUALIFIER: 8,
  STATUS: 10,
  RESPONSE: 11,
  SENSE: 12,
} as const;

/** `response` of commands and of control requests (§5.6.6.1, §5.6.6.2). */
export const ResponseCode = {
  OK: 0,
  OVERRUN: 1,
  ABORTED: 2,
  BAD_TARGET: 3,
  RESET: 4,
  FAILURE: 9,
  FUNCTION_SUCCEEDED: 10,
  FUNCTION_REJECTED: 11,
  INCORRECT_LUN: 12,
} as const;

/** Control requests (§5.6.6.2). */
export const ControlType = { TMF: 0, AN_QUERY: 1, AN_SUBSCRIBE: 2 } as const;
export const Tmf = { TYPE: 0, SUBTYPE: 4, LUN: 8, ID: 16, LENGTH: 24 } as const;
export const AsyncNotification = { LENGTH: 16, EVENT_ACTUAL: 0, RESPONSE: 4, ANSWER_LENGTH: 5 } as const;
export const TmfSubtype = {
  ABORT_TASK: 0,
  ABORT_TASK_SET: 1,
  CLEAR_TASK_SET: 3,
  I_T_NEXUS_RESET: 4,
  LOGICAL_UNIT_RESET: 5,
  QUERY_TASK: 6,
  QUERY_TASK_SET: 7,
} as const;

/** struct virtio_scsi_event (§5.6.6.3). */
export const Event = { EVENT: 0, LUN: 4, REASON: 12, LENGTH: 16, PARAM_CHANGE: 3 } as const;

export const SEG_MAX = 254;
export const MAX_TARGETS = 255;
