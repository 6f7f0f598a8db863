/**
 * Device scope entries: how a structure names the devices it is about.
 *
 * @spec VT-d 8.3.1
 */
import { decode, defineLayout, encode, hex, uint } from '@iommukit/bits';
import { wordsToBytes } from './bytes.ts';
import type { Report } from './problems.ts';

/** What a device scope entry names. */
export const SCOPE_TYPE = {
  PCI_ENDPOINT: 1,
  /** A bridge, with everything below it. */
  PCI_SUB_HIERARCHY: 2,
  IOAPIC: 3,
  /** A message-signalled HPET. */
  HPET: 4,
  /** A device of the ACPI namespace; an ANDD with the same number names it. */
  ACPI_NAMESPACE: 5,
} as const;

/** Flags of scope entries in a SIDP; reserved in every other structure. */
export const SIDP_SCOPE_FLAG = {
  NESTED_NOT_ALLOWED: 1,
  PWSNP_NOT_REQUIRED: 2,
  PGSNP_NOT_REQUIRED: 4,
  ATC_HARDENED: 8,
  ATC_REQUIRED: 16,
} as const;

/** Bytes before the path. */
const FIXED_BYTES = 6;
/** With the one path element that every entry has. */
const MIN_BYTES = 8;
const MAX_HOPS = 124;

/** A device scope entry with the first element of its path; further elements follow it. */
export const DEVICE_SCOPE = defineLayout({
  name: 'DEVICE_SCOPE',
  bits: 64,
  spec: 'VT-d 8.3.1',
  doc: 'device scope: who is meant, and the way there',
  fields: {
    TYPE: uint(7, 0, 'kind of device, SCOPE_TYPE'),
    LENGTH: uint(15, 8, 'bytes: 6 + 2 per path element'),
    FLAGS: uint(23, 16, 'SIDP only'),
    ENUMERATION_ID: uint(39, 32, 'I/O APIC id, HPET number or ACPI device number'),
    START_BUS: uint(47, 40, 'bus of the first path element'),
    DEVICE: uint(55, 48, 'first path element: device'),
    FUNCTION: uint(63, 56, 'first path element: function'),
  },
});

/** One step of a path: through the bridge at this place, and at the end the device. */
export interface PathHop {
  /** 0 to 31. */
  readonly device: number;
  /** 0 to 7. */
  readonly function: number;
}

/** A device scope entry. */
export interface DeviceScope {
  /** One of {@link SCOPE_TYPE}. */
  readonly type: number;
  /** Sum of {@link SIDP_SCOPE_FLAG}; 0 outside a SIDP. */
  readonly flags: number;
  /** I/O APIC id, HPET number or ACPI device number, by type; 0 for PCI devices. */
  readonly enumerationId: number;
  /** Bus of the first hop. */
  readonly startBus: number;
  /** At least one hop. */
  readonly path: readonly PathHop[];
}

/** Bytes that an entry takes. */
export const scopeBytes = (scope: DeviceScope): number => FIXED_BYTES + 2 * scope.path.length;

/** `00:1c.0/00.0`: start bus, then device.function per hop, hexadecimal. */
export const formatScopePath = ({ startBus, path }: DeviceScope): string => {
  const two = (value: number) => value.toString(16).padStart(2, '0');
  const hops = path.map((hop) => `${two(hop.device)}.${hop.function.toString(16)}`);
  return `${two(startBus)}:${hops.join('/')}`;
};

/**
 * Read the entries in `bytes` [offset, end). The first entry with an impossible length ends it:
 * nothing says where the next one would start.
 *
 * @param report told of impossible lengths and of reserved bytes that are set
 */
export const readScopes = (
  bytes: Uint8Array,
  offset: number,
  end: number,
  report: Report,
): DeviceScope[] => {
  const scopes: DeviceScope[] = [];
  let at = offset;
  while (at < end) {
    const length = usableLength(bytes, at, end, report);
    if (length === 0) break;
    scopes.push(readScope(bytes.subarray(at, at + length), at, report));
    at += length;
  }
  return scopes;
};

/** The entry's length when it can be trusted; 0, reported, when not. */
const usableLength = (bytes: Uint8Array, at: number, end: number, report: Report): number => {
  const room = end - at;
  const length = room < 2 ? 0 : (bytes[at + 1] as number);
  if (room >= MIN_BYTES && length >= MIN_BYTES && length % 2 === 0 && length <= room) return length;
  report(room < 2 ? at : at + 1, {
    severity: 'error',
    rule: 'scope-length',
    value: length,
    message:
      room < MIN_BYTES
        ? `${room} bytes are left for a device scope, which has at least ${MIN_BYTES}`
        : `the device scope is ${length} bytes long, expected an even number from ${MIN_BYTES} ` +
          `to the ${room} that the structure has left`,
  });
  return 0;
};

const readScope = (entry: Uint8Array, at: number, report: Report): DeviceScope => {
  const view = new DataView(entry.buffer, entry.byteOffset, entry.byteLength);
  const fields = decode(DEVICE_SCOPE, [view.getUint32(0, true), view.getUint32(4, true)]);
  const reserved = entry[3] as number;
  if (reserved !== 0) {
    report(at + 3, {
      severity: 'warning',
      rule: 'reserved',
      value: reserved,
      message: `the reserved byte of the device scope is ${hex(reserved)}, expected 0`,
    });
  }
  const path: PathHop[] = [];
  for (let hop = FIXED_BYTES; hop < entry.length; hop += 2) {
    path.push({ device: entry[hop] as number, function: entry[hop + 1] as number });
  }
  return {
    type: fields.TYPE,
    flags: fields.FLAGS,
    enumerationId: fields.ENUMERATION_ID,
    startBus: fields.START_BUS,
    path,
  };
};

/**
 * Bytes of one entry.
 *
 * @throws {RangeError} when a value does not fit its field, or the path has no hop or above 124
 */
export const writeScope = (scope: DeviceScope): Uint8Array => {
  const { path } = scope;
  const [first] = path;
  if (!first || path.length > MAX_HOPS) {
    throw new RangeError(`a device scope's path has 1 to ${MAX_HOPS} elements, not ${path.length}`);
  }
  const bytes = new Uint8Array(scopeBytes(scope));
  path.forEach((hop, index) => {
    bytes.set(wordsToBytes(scopeWords(scope, hop)).subarray(FIXED_BYTES), FIXED_BYTES + 2 * index);
  });
  bytes.set(wordsToBytes(scopeWords(scope, first)).subarray(0, FIXED_BYTES));
  return bytes;
};

const scopeWords = (scope: DeviceScope, hop: PathHop): Uint32Array =>
  encode(DEVICE_SCOPE, {
    TYPE: scope.type,
    LENGTH: scopeBytes(scope),
    FLAGS: scope.flags,
    ENUMERATION_ID: scope.enumerationId,
    START_BUS: scope.startBus,
    DEVICE: hop.device,
    FUNCTION: hop.function,
  });
