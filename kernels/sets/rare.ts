/** What few models use: random numbers, losses, training, sequences, text, classical machine learning. */
import type { Op } from '../define.ts';
import { randoms } from '../random.ts';
import { losses } from '../loss.ts';
import { optimizers } from '../training.ts';
import { sequence } from '../sequence.ts';
import { strings } from '../strings.ts';
import { features } from '../ml/features.ts';
import { labels } from '../ml/labels.ts';
import { linear } from '../ml/linear.ts';
import { svm } from '../ml/svm.ts';
import { trees } from '../ml/trees.ts';
import { gradients } from '../gradient.ts';

export const families: readonly (readonly Op[])[] = [
  randoms,
  losses,
  optimizers,
  sequence,
  strings,
  features,
  labels,
  linear,
  svm,
  trees,
  gradients,
];
