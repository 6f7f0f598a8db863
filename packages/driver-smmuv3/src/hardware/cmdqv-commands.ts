/**
 * Commands in a queue of the CMDQV: few of them, under the guest's VMID, for the guest's devices.
 *
 * @linux drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c (tegra241_guest_vcmdq_supports_cmd)
 */
import { ATC_INV, COMMAND, SYNC, SYNC_CS, TLBI } from '../spec/commands.ts';
import { CMDQ_ERR } from '../spec/registers.ts';
import type { CommandWatcher } from './command-queue.ts';
import type { DeviceCommands } from './device-commands.ts';
import type { HardwareMemory } from './memory.ts';
import type { TranslationCommands } from './translation-commands.ts';

const VMID = TLBI.fields.VMID.mask;
const SSEC = ATC_INV.fields.SSEC.mask;
const CS = SYNC.fields.CS.mask;

/** What commands work on. */
export interface GuestQueueTargets {
  readonly memory: HardwareMemory;
  readonly translations: TranslationCommands;
  readonly devices: DeviceCommands;
  /** Absent in units that nobody watches. */
  watcher?: CommandWatcher | undefined;
}

/** What is put into a guest's commands. */
export interface GuestNames {
  readonly vmid: number;
  /** The unit's StreamID, or -1. */
  replace(sid: number): number;
}

/**
 * Execute one command.
 *
 * @param words four dwords; changed
 * @param guest whose it is; undefined = the host's, as it is
 * @returns one of CMDQ_ERR
 */
export const runGuestCommand = (
  targets: GuestQueueTargets,
  words: Int32Array,
  guest: GuestNames | undefined,
): number => {
  const { translations, devices, watcher } = targets;
  const opcode = (words[0] as number) & 0xff;
  if (opcode === COMMAND.SYNC) return sync(devices, words[0] as number);
  if (((words[0] as number) & SSEC) !== 0) return CMDQ_ERR.ILL;
  if (guest && !rename(opcode, words, guest)) return CMDQ_ERR.ILL;
  watcher?.starts(words);
  const isDone =
    opcode >= COMMAND.TLBI_NH_ALL && opcode <= COMMAND.TLBI_NSNH_ALL
      ? translations.execute(opcode, words)
      : opcode === COMMAND.ATC_INV && devices.execute(opcode, words);
  if (!isDone) return CMDQ_ERR.ILL;
  watcher?.done();
  return CMDQ_ERR.NONE;
};

/** No other signal than the consumer index; a device that did not answer is reported here. */
const sync = (devices: DeviceCommands, w0: number): number => {
  if ((w0 & CS) !== SYNC_CS.NONE) return CMDQ_ERR.ILL;
  if (!devices.timedOut) return CMDQ_ERR.NONE;
  devices.timedOut = false;
  return CMDQ_ERR.ATC_INV_SYNC;
};

/** @returns false for a command that a guest cannot send, or a device that it does not have */
const rename = (opcode: number, words: Int32Array, { vmid, replace }: GuestNames): boolean => {
  if (opcode === COMMAND.TLBI_NH_ASID || opcode === COMMAND.TLBI_NH_VA) {
    words[1] = ((words[1] as number) & ~VMID) | vmid;
    return true;
  }
  if (opcode !== COMMAND.ATC_INV) return false;
  const sid = replace((words[1] as number) >>> 0);
  words[1] = sid;
  return sid >= 0;
};
