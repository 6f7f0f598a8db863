export * from './physical-memory.ts';
