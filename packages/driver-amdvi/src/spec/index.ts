/** What the AMD IOMMU specification prints: registers, table entries, commands, events. */
export * from './commands.ts';
export * from './device-table-entry.ts';
export * from './events.ts';
export * from './guest-table-entry.ts';
export * from './host-table-entry.ts';
export * from './ppr-log-entry.ts';
export * from './registers.ts';
