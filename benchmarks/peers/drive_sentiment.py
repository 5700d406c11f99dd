"""VADER or SnowNLP in an environment of its own: texts in (a JSON list on stdin), a share of good out, and its cost.

    python drive_sentiment.py vader|snownlp < texts.json > shares.json

VADER's compound score, -1 to 1, is given as (score + 1) / 2; SnowNLP's own number is a share already. Both as they
come, with the words and weights of their packages.
"""

import json
import sys
import time


def main() -> None:
    texts = json.load(sys.stdin)
    if sys.argv[1] == "vader":
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        told = SentimentIntensityAnalyzer().polarity_scores
        share = lambda text: (told(text)["compound"] + 1) / 2  # noqa: E731
    else:
        from snownlp import SnowNLP

        share = lambda text: SnowNLP(text).sentiments if text.strip() else 0.5  # noqa: E731
    started = time.process_time()
    shares = [float(share(text)) for text in texts]
    json.dump({"shares": shares, "cpu_s": time.process_time() - started}, sys.stdout)


if __name__ == "__main__":
    main()
