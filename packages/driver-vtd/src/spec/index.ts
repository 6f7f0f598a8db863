/**
 * What the VT-d specification prints: layouts of registers, tables, descriptors and records.
 *
 * @spec Intel Virtualization Technology for Directed I/O, revision 5.10
 */
export * from './context-entry.ts';
export * from './fault-reasons.ts';
export * from './fault-record.ts';
export * from './first-stage-entry.ts';
export * from './host-permission-entry.ts';
export * from './interrupt-entry.ts';
export * from './invalidation-descriptors.ts';
export * from './page-request.ts';
export * from './pasid-entry.ts';
export * from './registers.ts';
export * from './root-entry.ts';
export * from './second-stage-entry.ts';
