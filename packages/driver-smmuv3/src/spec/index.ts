/** What the SMMUv3 specification prints: registers, tables, descriptors, commands, events. */
export * from './cmdqv.ts';
export * from './commands.ts';
export * from './context-descriptor.ts';
export * from './events.ts';
export * from './page-request.ts';
export * from './registers.ts';
export * from './stream-table-entry.ts';
export * from './translation-descriptor.ts';
