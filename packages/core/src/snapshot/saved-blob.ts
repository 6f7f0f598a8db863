/**
 * Vendor data of a call that is made again.
 * @module
 */
import { refuse } from '../errors.ts';
import { RememberedBlob } from '../iommufd/user-data.ts';
import { RESTORE_OP } from './envelope.ts';
import type { OriginState } from './object-state.ts';

const no = (code: 'EINVAL' | 'EFAULT', message: string, value: number, accepted: string) =>
  refuse(code, RESTORE_OP, 'vendor-data', message, { value, accepted });

/** The data a driver was given, as it read it then. */
export const savedBlob = (data: OriginState['data']): RememberedBlob | undefined => {
  if (!data) return undefined;
  const { type, length, bytes } = data;
  const blob = new RememberedBlob({
    type,
    length,
    copyIn: (expected, minLast, size) => {
      if (type !== expected) throw no('EINVAL', 'vendor data of another type', type, `${expected}`);
      if (length < minLast || length > size || (bytes && bytes.length > size)) {
        throw no('EINVAL', 'vendor data of a bad length', length, `${minLast} to ${size} bytes`);
      }
      if (!bytes) throw no('EFAULT', 'the driver never read this data', length, 'the same driver');
      const whole = new Uint8Array(size);
      whole.set(bytes);
      return whole;
    },
    copyOut: () => {},
  });
  blob.bytes = bytes;
  return blob;
};
