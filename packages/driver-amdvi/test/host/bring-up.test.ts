/** From reset to translating: what is programmed, in which order. */
import { describe, expect, it } from 'vitest';
import { codeOf } from './fixture.ts';
import { GUEST_EFR, recorded } from './recording-unit.ts';

const CONTROL = 0x18;
const HOST_EFR = 0x0012_40c0_0000_0840n;

const registerWrites = (bench: ReturnType<typeof recorded>): string[] =>
  bench.registers.log.flatMap((access) =>
    access.kind === 'register' && access.offset < 0x2000 ? [access.offset.toString(16)] : [],
  );

const controls = (bench: ReturnType<typeof recorded>): string[] =>
  bench.registers.log.flatMap((access) =>
    access.kind === 'register' && access.offset === CONTROL ? [access.value.toString(16)] : [],
  );

describe('AMD IOMMU 3.4.4: the enable sequence', () => {
  it('off, tables and rings, messages, modes, on', () => {
    expect(registerWrites(recorded())).toEqual([
      '18',
      '0',
      '8',
      '10',
      '15c',
      '160',
      '164',
      '158',
      '18',
      '18',
      '38',
      '18',
    ]);
  });

  it.each([
    ['host tables alone', HOST_EFR, 0x800n, ['0', '148c', '148d']],
    [
      'guest tables, page requests, GCR3 pointers of guests',
      GUEST_EFR,
      0x808n,
      // GTEn 16, EPHEn 45, GCR3TRPMode 58; then PPREn, PPRLogEn, PPRIntEn in the lower half.
      ['0', '40020000001148c', '40020000001148d', '1f48d'],
    ],
    [
      'guest tables without GCR3TRPModeSup',
      GUEST_EFR & ~2n,
      0x800n,
      ['0', '20000001148c', '20000001148d'],
    ],
  ])('%s: modes stand before IommuEn', (_, efr, efr2, expected) => {
    expect(controls(recorded({ efr, efr2 }))).toEqual(expected);
  });

  it('then everything is forgotten: one command, or one for every device and domain', () => {
    expect(recorded().registers.commands()).toEqual(['8000000000000000 0000000000000000']);
    const commands = recorded({ efr: HOST_EFR & ~0x40n }).registers.commands();
    expect(commands).toHaveLength(0x2_0000);
    expect(commands.slice(-2)).toEqual([
      '200000000000ffff 0000000000000000',
      '3000ffff00000000 7ffffffffffff003',
    ]);
  });

  it('ENODEV without the MSI capability in registers', () => {
    expect(codeOf(() => recorded({ efr: HOST_EFR & ~(1n << 46n) }))).toBe('ENODEV');
  });

  it.each([
    ['PASMax 19, three GCR3 levels', GUEST_EFR, 20],
    ['PASMax 15', (GUEST_EFR & ~(0x1fn << 32n)) | (15n << 32n), 16],
    ['one GCR3 level', GUEST_EFR & ~0xc000n, 9],
    ['no EPHSup: no PASIDs', GUEST_EFR & ~(1n << 50n), 0],
    ['no PPRSup: no PASIDs', GUEST_EFR & ~2n, 0],
    ['no GTSup: no PASIDs', GUEST_EFR & ~16n, 0],
  ])('%s', (_, efr, bits) => {
    expect(recorded({ efr }).unit.caps.pasidBits).toBe(bits);
  });

  it.each([
    ['HtRangeIgnore', 0x808n, ['msi']],
    ['the HyperTransport window', 0x8n, ['msi', 'reserved']],
  ])('reserved regions: %s', (_, efr2, kinds) => {
    const { unit, device } = recorded({ efr2 });
    expect(unit.reservedRegions(device).map(({ kind }) => kind)).toEqual(kinds);
    const ht = unit.reservedRegions(device)[1];
    if (ht) expect([ht.start, ht.last]).toEqual([0xfd_0000_0000, 0xff_ffff_ffff]);
  });
});
