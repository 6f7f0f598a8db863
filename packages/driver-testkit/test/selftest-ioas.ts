/** The variants of the kernel's fixture of an IOAS with none, one or two mock devices. */
import { afterEach, beforeEach, describe } from 'vitest';
import { APERTURE, RawKit } from './raw-kit.ts';

export interface IoasVariant {
  readonly name: string;
  readonly devices: number;
  /** Bytes that building of page lists may use at a time; 0 for the usual. */
  readonly memoryLimit: number;
}

const IOAS_VARIANTS: readonly IoasVariant[] = [
  { name: 'no_domain', devices: 0, memoryLimit: 0 },
  { name: 'mock_domain', devices: 1, memoryLimit: 0 },
  { name: 'two_mock_domain', devices: 2, memoryLimit: 0 },
  { name: 'mock_domain_limit', devices: 1, memoryLimit: 16 },
];

export interface IoasFixture {
  readonly kit: RawKit;
  readonly ioas: bigint;
  /** Of the device attached last; 0 without one. */
  readonly stdev: bigint;
  readonly hwpt: bigint;
  readonly dev: bigint;
  readonly base: number;
  readonly hasDevice: boolean;
}

const DEV_PASID = 4;

const setUp = (variant: IoasVariant): IoasFixture => {
  const kit = new RawKit();
  const ioas = kit.ioas();
  kit.ok('TEST_SET_TEMP_MEMORY_LIMIT', { limit: variant.memoryLimit || 65536 });
  let last = { stdev: 0n, hwpt: 0n, dev: 0n };
  for (let i = 0; i < variant.devices; i++) {
    last = kit.mock(ioas, variant.devices === 1 ? DEV_PASID : 0);
  }
  const hasDevice = variant.devices > 0;
  return { kit, ioas, ...last, base: hasDevice ? APERTURE : 0, hasDevice };
};

/** Describe tests once per variant; `fixture()` is the one of the running test. */
export const describeIoas = (
  title: string,
  body: (fixture: () => IoasFixture, variant: IoasVariant) => void,
): void => {
  describe.each(IOAS_VARIANTS)(`${title} $name`, (variant) => {
    let made: IoasFixture;
    beforeEach(() => {
      made = setUp(variant);
    });
    afterEach(() => {
      made.kit.ok('TEST_SET_TEMP_MEMORY_LIMIT', { limit: 65536 });
      made.kit.close();
    });
    body(() => made, variant);
  });
};
