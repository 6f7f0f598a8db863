import { createMachine, createProcess } from '@iommukit/core';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DmaList, type DmaMapping, lastPfnOf } from '../../src/type1/dma-list.ts';

const process = createProcess(createMachine());
const mapping = (startPfn: number, pages: number): DmaMapping => ({
  startPfn,
  pages,
  vaddr: 0n,
  rights: 3,
  vaddrInvalid: false,
  owner: process,
  pinnedFrom: process,
});

const step = fc.record({
  start: fc.integer({ min: 0, max: 6000 }),
  pages: fc.integer({ min: 1, max: 3 }),
  remove: fc.boolean(),
});

test('against a plain array, with more mappings than a block holds', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 100, maxLength: 400 }), (steps) => {
      const list = new DmaList();
      let model: DmaMapping[] = [];
      const add = (added: DmaMapping) => {
        list.insert(added);
        model = [...model, added].sort((a, b) => a.startPfn - b.startPfn);
      };
      for (let i = 1500; i > 0; i--) list.insert(mapping(4 * i, 1));
      model = list.all();
      for (const { start, pages, remove } of steps) {
        const last = start + pages - 1;
        const touching = model.filter((one) => one.startPfn <= last && lastPfnOf(one) >= start);
        expect(list.collect(start, last)).toEqual(touching);
        expect(list.find(start, last)).toBe(touching[0]);
        if (remove) {
          for (const one of touching) list.remove(one);
          model = model.filter((one) => !touching.includes(one));
        } else if (touching.length === 0) add(mapping(start, pages));
        expect(list.count).toBe(model.length);
      }
      expect(list.all()).toEqual(model);
    }),
    { numRuns: 15 },
  );
});
