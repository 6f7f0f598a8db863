/** Replays what a real Linux 7.3.4 answered; every errno and output byte must be the same. */
import { createMachine, createProcess, openIommufd } from '@iommukit/core';
import { type GoldenSequence, replaySequence } from '@iommukit/driver-testkit';
import { describe, expect, it, vi } from 'vitest';
import { goldenSequences } from './golden-data.ts';
import { FOLDERS } from './golden-folders.ts';

const MACHINE = createMachine();

for (const [folder, platform] of FOLDERS) {
  describe(`recordings of Linux 7.3.4, ${folder}`, () => {
    it.each(goldenSequences(folder))('$name: $doc', (sequence) => {
      expect(replaySequence(sequence, platform)).toEqual([]);
    });
  });
}

describe('the replayer notices', () => {
  const base = goldenSequences('systematic');
  const changed = (name: string, index: number, change: object): GoldenSequence => {
    const sequence = base.find((known) => known.name === name) as GoldenSequence;
    const steps = sequence.steps.map((step, at) => (at === index ? { ...step, ...change } : step));
    return { ...sequence, steps };
  };

  it.each([
    ['another errno', '03_map_overlap', 7, { err: 'EINVAL' }],
    ['success instead of an error', '03_map_overlap', 7, { ret: 0, err: undefined }],
    ['another id', '03_map_overlap', 4, { out: { out_ioas_id: 2 } }],
    ['a field that did not change', '03_map_overlap', 22, { out: { length: '0x4000' } }],
    ['a captured id that differs', '03_map_overlap', 5, { resolved: { ioas_id: 2 } }],
    ['other bytes read', '17_veventq', 34, { data: '000000000000000098000000' }],
    ['other poll events', '17_veventq', 31, { revents: 0 }],
    ['another count of pinned memory', '21_access_pin', 17, { vmpin: 8 }],
    ['other memory', '21_access_pin', 14, { mem_out: ['00'] }],
  ])('%s', (_title, name, index, change) => {
    const differences = replaySequence(changed(name, index, change));
    expect(differences.map(({ step }) => step)).toEqual([index]);
  });
});

describe('relative mode', () => {
  const names = [
    '01_size_ioas_alloc',
    '03_map_overlap',
    '11_vfio_ioas',
    '13_hwpt_nested',
    '17_viommu_nested',
    '25_destroy_order',
  ];
  const sequences = goldenSequences('systematic').filter(({ name }) => names.includes(name));
  const differing = (ids: 'strict' | 'relative'): number =>
    sequences.filter((sequence) => replaySequence(sequence, 'mock', { ids }).length > 0).length;
  const numberFrom = (first: number) => {
    const { objects } = openIommufd(createProcess(MACHINE), MACHINE);
    return vi.spyOn(Object.getPrototypeOf(objects), 'reserve').mockImplementation(() => first++);
  };

  it('accepts numbers that are not the recorded ones, which strict mode does not', () => {
    const spy = numberFrom(5000);
    const strict = differing('strict');
    const relative = differing('relative');
    spy.mockRestore();
    expect([relative, strict]).toEqual([0, names.length]);
  });
});
