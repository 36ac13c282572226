/** What a check found, with the fields of `qemu-img check --output=json`. */
export interface CheckReport {
  /** Data may be lost, or will be by the next writes. */
  corruptions: number;
  /** Clusters that nothing uses: a waste of space. */
  leaks: number;
  /** Things that could not be checked. */
  checkErrors: number;
  corruptionsFixed: number;
  leaksFixed: number;
  imageEndOffset: number;
  totalClusters: number;
  allocatedClusters: number;
  fragmentedClusters: number;
  compressedClusters: number;
  /** One line a finding, the first thousand of them. */
  readonly messages: string[];
}

const MAX_MESSAGES = 1000;

export const emptyReport = (): CheckReport => ({
  corruptions: 0,
  leaks: 0,
  checkErrors: 0,
  corruptionsFixed: 0,
  leaksFixed: 0,
  imageEndOffset: 0,
  totalClusters: 0,
  allocatedClusters: 0,
  fragmentedClusters: 0,
  compressedClusters: 0,
  messages: [],
});

export function note(report: CheckReport, message: string): void {
  if (report.messages.length < MAX_MESSAGES) report.messages.push(message);
}
