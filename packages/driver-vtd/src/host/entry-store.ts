import type { Attachment } from './attachment.ts';
import type { DeviceState } from './device-state.ts';

/**
 * How an attachment stands in memory: a PASID entry in scalable mode, a context entry in legacy
 * mode. Each call leaves no cache with an older state than memory.
 */
export interface EntryStore {
  /**
   * Make room for an entry.
   *
   * @throws {IommuError} ENOMEM
   */
  reserve(device: DeviceState, pasid: number): void;
  /** Absent to present. */
  install(next: Attachment): void;
  /** Present to absent. */
  remove(old: Attachment): void;
  /**
   * Present to present in one store that hardware sees whole.
   *
   * @returns false when the entries differ in too many places for that; nothing is changed
   */
  replace(old: Attachment, next: Attachment): boolean;
}
