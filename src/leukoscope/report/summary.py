from leukoscope.report.distrust import listed
from leukoscope.report.evaluation import LEADING_METRIC, Evaluation, Pair
from leukoscope.scores.significance import SUPERVISED


def summary(evaluation: Evaluation) -> list[str]:
    """The result in a few sentences: the best head of each frozen encoder, and what stands beside them."""
    frozen = [pair for pair in evaluation.leaders() if pair[0] != SUPERVISED]
    trained = [pair for pair in evaluation.leaders() if pair[0] == SUPERVISED]
    sentences = []
    if frozen:
        best, *others = frozen
        name = LEADING_METRIC.replace("_", " ")
        score = _score(evaluation, best)
        sentences.append(f"The best frozen encoder is {best[0]} with head {best[1]}: {name} {score}.")
        if others:
            beside = [f"{' with '.join(pair)} {_score(evaluation, pair)}" for pair in others]
            sentences.append(f"Beside it: {listed(beside)}.")
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
