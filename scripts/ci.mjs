// `.ci/run`: every check of the repository, one after the other.
import { requireNode } from './lib/check-node.mjs';

requireNode();
import('./ci/main.mjs');
