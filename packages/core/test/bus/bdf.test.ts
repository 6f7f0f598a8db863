import { describe, expect, test } from 'vitest';
import { formatRid, parseRid } from '../../src/bus/bdf.ts';

describe('requester id (PCIe 2.2.6.2: bus [15:8], device [7:3], function [2:0])', () => {
  test.each([
    ['00:04.0', 0x0020, '0000:00:04.0'],
    ['0000:00:04.1', 0x0021, '0000:00:04.1'],
    ['ff:1f.7', 0xffff, '0000:ff:1f.7'],
    ['1:0.0', 0x0100, '0000:01:00.0'],
  ])('%s is %i', (text, rid, canonical) => {
    expect(parseRid(text)).toBe(rid);
    expect(formatRid(rid)).toBe(canonical);
  });

  test.each(['', '00:20.0', '00:04.8', '0001:00:04.0', '100:04.0', '00:04', 'eth0'])(
    "'%s' is refused and the message says what is expected",
    (text) => {
      expect(() => parseRid(text)).toThrow(/expected bus:device\.function/);
    },
  );
});
