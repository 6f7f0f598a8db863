/** What a VMM hands over for its guest: vendor structs, as core copies them in. */
import type { UserArray, UserBlob, VeventSink, ViommuBackend } from '@iommukit/core';
import type { AmdviUnit } from '../../src/host/unit.ts';

const errno = (code: string): Error => Object.assign(new Error(code), { code });

const bytesOf = (qwords: readonly bigint[]): Uint8Array => {
  const bytes = new Uint8Array(qwords.length * 8);
  const view = new DataView(bytes.buffer);
  qwords.forEach((value, at) => {
    view.setUint32(at * 8, Number(value & 0xffff_ffffn), true);
    view.setUint32(at * 8 + 4, Number(value >> 32n), true);
  });
  return bytes;
};

/** `struct iommu_hwpt_amd_guest`. */
export const guestDte = (qwords: readonly bigint[], type = 3): UserBlob => {
  const bytes = bytesOf(qwords);
  return {
    type,
    length: bytes.length,
    copyIn(wanted, minLast, size) {
      if (wanted !== type || bytes.length < minLast || bytes.length > size) throw errno('EINVAL');
      const out = new Uint8Array(size);
      out.set(bytes);
      return out;
    },
    copyOut() {},
  };
};

/** `VIOMMU_INVALIDATE_DATA_AMD`. */
export const COMMANDS = 0x414d_4400;

/** Commands of a guest, two qwords each. */
export const guestCommands = (
  commands: readonly (readonly [bigint, bigint])[],
  type = COMMANDS,
): UserArray => ({
  type,
  entryLength: 16,
  entryCount: commands.length,
  done: 0,
  copyEntry: (index) => bytesOf(commands[index] ?? []),
  copyAll: () => {
    throw errno('EINVAL');
  },
});

/** Collects what a guest is told. */
export class Events implements VeventSink {
  readonly got: [type: number, words: string][] = [];
  /** Whether the guest has a queue. */
  listening = true;

  report(type: number, data: Uint8Array): boolean {
    if (!this.listening) return false;
    const view = new DataView(data.buffer);
    const words = [8, 0].map((at) => view.getBigUint64(at, true).toString(16).padStart(16, '0'));
    this.got.push([type, `${words[1]} ${words[0]}`]);
    return true;
  }
}

/** A vIOMMU over a new nest parent, with what its backend offers. */
export const guestOf = (
  unit: Pick<AmdviUnit, 'allocPaging' | 'viommu'>,
  device: Parameters<AmdviUnit['allocPaging']>[0],
  flags = 1,
) => {
  const parent = unit.allocPaging(device, { flags });
  const events = new Events();
  const backend = unit.viommu.init(device, 3, parent, undefined, events) as Required<
    Pick<ViommuBackend, 'allocNested' | 'invalidate' | 'vdeviceInit' | 'vdeviceDestroy'>
  > &
    ViommuBackend;
  return { parent, events, backend };
};
