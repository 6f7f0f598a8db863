export { type ChildMapping, SoftwareNesting } from './software-nesting.ts';
