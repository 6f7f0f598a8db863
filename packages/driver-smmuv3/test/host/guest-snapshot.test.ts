/** Guests that go on on another machine: domains, vIOMMUs, names of devices, events. */
import { decode, encode } from '@iommukit/bits';
import { type Endpoint, restoreSnapshot, saveSnapshot } from '@iommukit/core';
import { describe, expect, test } from 'vitest';
import {
  COMMAND,
  decodeVeventArmSmmuv3,
  EVENT_RECORD,
  encodeViommuArmSmmuv3Invalidate,
  TLBI,
} from '../../src/index.ts';
import { CD_OF, guest, hardwareOf, LEAF_OF, VA } from './guest.ts';

const HVA = 0x4000_0000;
const NH_ASID_1 = encode(TLBI, { OPCODE: COMMAND.TLBI_NH_ASID, ASID: 1 });

/** Two guests on one stage 2, both with ASID 1, moved while they run. */
const moved = () => {
  const world = guest();
  const viommus = [world.viommu(0), world.viommu(1)] as const;
  viommus.forEach((viommuId, device) => {
    world.vdevice(viommuId, device, 0x10 + device);
    const cd = device === 0 ? CD_OF.A1 : CD_OF.A2;
    world.attach(device, world.nested(device, viommuId, world.s1(cd)));
  });
  world.context.veventqAlloc({ viommuId: viommus[1], type: 1, veventqDepth: 4 });
  const bytes = saveSnapshot({
    machine: world.machine,
    processes: [world.process],
    contexts: [world.context],
  });
  const { machine, devices } = hardwareOf();
  const { processes, contexts } = restoreSnapshot(bytes, { machine });
  const [process, context] = [processes[0] as never, contexts[0] as never] as [
    (typeof processes)[number],
    (typeof contexts)[number],
  ];
  let tokens = 0;
  const page = (device: number, address: number): number => {
    const token = new TextEncoder().encode(`moved${tokens++}`.padEnd(8));
    if ((devices[device] as Endpoint).dmaWrite(address, token) === 0) return -1;
    for (let gpa = 0; gpa < 0x2_0000; gpa += 0x1000) {
      if (process.peek(HVA + gpa, 8)?.join() === token.join()) return gpa;
    }
    return -2;
  };
  const write = (gpa: number, value: bigint): void => {
    const word = new Uint8Array(8);
    new DataView(word.buffer).setBigUint64(0, value, true);
    process.poke(HVA + gpa, word);
  };
  return { context, viommus, page, write };
};

describe('a snapshot with guests', () => {
  test('tables, tags and devices’ names are where they were', () => {
    const { context, viommus, page, write } = moved();
    expect([page(0, VA), page(1, VA)]).toEqual([0x9000, 0xa000]);
    write(LEAF_OF.A1, 0xbf43n);
    write(LEAF_OF.A2, 0xcf43n);
    const data = encodeViommuArmSmmuv3Invalidate([NH_ASID_1]);
    const request = { hwptId: viommus[1], dataType: 1, entryLen: 16, entryNum: 1, data };
    expect(context.hwptInvalidate(request)).toMatchObject({ entryNum: 1 });
    expect([page(0, VA), page(1, VA)]).toEqual([0x9000, 0xc000]);
  });

  test('events find their guest', () => {
    const { context, viommus, page } = moved();
    expect(page(1, VA + 0x1000)).toBe(-1);
    const queue = [...context.find('test', viommus[1], 'VIOMMU').veventqs.values()][0];
    const [event] = queue?.readEvents() ?? [];
    const record = decode(EVENT_RECORD, decodeVeventArmSmmuv3(event?.data as Uint8Array));
    expect(record).toMatchObject({ CODE: 0x10, SID: 0x11 });
  });

  test('everything can be taken down afterwards', () => {
    const { context } = moved();
    context.close();
  });
});
