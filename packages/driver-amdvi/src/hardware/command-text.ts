/**
 * Commands in words, as the sanitizer's findings name them.
 */
import { decode, hex } from '@iommukit/bits';
import { COMMAND, INVALIDATE_IOMMU_PAGES, INVALIDATE_IOTLB_PAGES } from '../spec/commands.ts';
import type { LoggedCommand } from './sanitizer-findings.ts';

const NAMES = new Map<number, string>(Object.entries(COMMAND).map(([name, code]) => [code, name]));

const DEVICE_COMMANDS: readonly number[] = [
  COMMAND.INVALIDATE_DEVTAB_ENTRY,
  COMMAND.INVALIDATE_IOTLB_PAGES,
  COMMAND.INVALIDATE_INTERRUPT_TABLE,
  COMMAND.PREFETCH_IOMMU_PAGES,
  COMMAND.COMPLETE_PPR_REQUEST,
];

/** Commands that take entries out of the unit's caches. */
const INVALIDATIONS: readonly number[] = [
  COMMAND.INVALIDATE_DEVTAB_ENTRY,
  COMMAND.INVALIDATE_IOMMU_PAGES,
  COMMAND.INVALIDATE_IOMMU_ALL,
];

/** Name and main fields of a command, and what it is about. */
export const describeCommand = (words: Int32Array): LoggedCommand => {
  const opcode = (words[1] as number) >>> 28;
  const name = NAMES.get(opcode) ?? `command ${opcode}`;
  const implicit = !INVALIDATIONS.includes(opcode);
  if (opcode === COMMAND.INVALIDATE_IOMMU_PAGES) {
    const { DOMAIN_ID, GN, PASID, PDE, ADDR } = decode(INVALIDATE_IOMMU_PAGES, words);
    const guest = GN === 1 ? ` PASID ${hex(PASID)}` : '';
    const text = `${name} DomainID ${DOMAIN_ID}${guest} ${hex(ADDR)}${PDE === 1 ? ' PDE' : ''}`;
    return { text, domain: DOMAIN_ID, rid: -1, leavesOnly: PDE === 0, implicit };
  }
  if (!DEVICE_COMMANDS.includes(opcode)) return { text: name, domain: -1, rid: -1, implicit };
  const { DEVICE_ID } = decode(INVALIDATE_IOTLB_PAGES, words);
  return { text: `${name} DeviceID ${hex(DEVICE_ID)}`, domain: -1, rid: DEVICE_ID, implicit };
};
