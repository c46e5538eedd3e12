from leukoscope.report.distrust import listed
from leukoscope.report.evaluation import LEADING_METRIC, Evaluation, Pair
from leukoscope.scores.significance import SUPERVISED, frozen


def summary(evaluation: Evaluation) -> list[str]:
    """The result in a few sentences: the best head of each frozen encoder, and what stands beside them."""
    pairs = list(evaluation.leaders())
    fixed = [pair for pair in pairs if frozen(*pair)]
    trained = [pair for pair in pairs if pair[0] == SUPERVISED]
    tuned = [pair for pair in pairs if pair not in fixed and pair not in trained]
    metric, sentences = LEADING_METRIC.replace("_", " "), []
    if fixed:
        best, *others = fixed
        score = _score(evaluation, best)
        sentences.append(f"The best frozen encoder is {best[0]} with head {best[1]}: {metric} {score}.")
        if others:
            beside = [f"{' with '.join(pair)} {_score(evaluation, pair)}" for pair in others]
            sentences.append(f"Beside it: {listed(beside)}.")
    if tuned:
        scores = listed([f"{pair[0]} {_score(evaluation, pair)}" for pair in tuned])
        sentences.append(f"Fine-tuned with the labels of the training cells, {metric}: {scores}.")
    if trained:
        scores = listed([f"{head} {_score(evaluation, (name, head))}" for name, head in trained])
        sentences.append(f"Trained from scratch on the same folds: {scores}.")
    return sentences


def _score(evaluation: Evaluation, pair: Pair) -> str:
    score = evaluation.score(pair, LEADING_METRIC)
    if score is None:
        return "(not scored)"
    if score.get("low") is None:
        return f"{score['mean']:.3f}"
    return f"{score['mean']:.3f} (95 % interval {score['low']:.3f} to {score['high']:.3f})"
