"""What teams would say about their models, in English and in Chinese: the same for the same seed.

Everything is put together from the words below; a text says what its fields say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

FRAMEWORKS = ("pytorch", "pytorch", "pytorch", "tensorflow", "jax", "onnx")
LICENCES = ("apache-2.0", "apache-2.0", "mit", "cc-by-4.0", "llama3.1", "internal")
ACTORS = (
    *("anna", "li.wei", "chen.jing", "zhang.min", "m.okafor", "j.silva", "wang.fang", "s.gupta"),
    *("liu.yang", "h.novak", "r.tanaka", "e.dubois", "zhao.lei", "k.larsen", "sun.hao", "p.rossi"),
    *("spark-trainer", "nightly-finetune", "airflow-registry", "eval-bot"),
)
CHINESE_SHARE = 0.35


@dataclass(frozen=True)
class Task:
    """What models of a kind do: in names, in English, in Chinese, and how it is measured."""

    slug: str
    english: str
    chinese: str
    metric: str


@dataclass(frozen=True)
class Field:
    """Where a model is used: in names, in English, in Chinese."""

    slug: str
    english: str
    chinese: str


TASKS = (
    Task("nlp.sentiment", "sentiment classification", "情感分析", "f1"),
    Task("nlp.ner", "named entity recognition", "命名实体识别", "f1"),
    Task("nlp.intent", "intent detection", "意图识别", "accuracy"),
    Task("nlp.summary", "abstractive summarisation", "文本摘要", "rouge_l"),
    Task("nlp.translate", "machine translation", "机器翻译", "bleu"),
    Task("nlp.embed", "sentence embedding", "句向量表示", "recall_at_10"),
    Task("nlp.rerank", "passage reranking", "段落重排序", "ndcg_at_10"),
    Task("llm.chat", "instruction following", "指令对话", "win_rate"),
    Task("llm.code", "code completion", "代码补全", "pass_at_1"),
    Task("llm.reward", "preference modelling", "偏好建模", "accuracy"),
    Task("speech.asr", "speech recognition", "语音识别", "word_accuracy"),
    Task("speech.tts", "speech synthesis", "语音合成", "mean_opinion"),
    Task("speech.wake", "wake word detection", "唤醒词检测", "recall"),
    Task("vision.detect", "object detection", "目标检测", "map_50"),
    Task("vision.segment", "image segmentation", "图像分割", "mean_iou"),
    Task("vision.ocr", "text recognition in images", "文字识别", "char_accuracy"),
    Task("vision.caption", "image captioning", "图像描述", "cider"),
    Task("recsys.ctr", "click-through prediction", "点击率预估", "auc"),
    Task("recsys.retrieval", "candidate retrieval", "召回", "recall_at_100"),
    Task("forecast.demand", "demand forecasting", "需求预测", "r2"),
    Task("risk.fraud", "fraud detection", "欺诈检测", "auc"),
    Task("risk.credit", "credit scoring", "信用评分", "auc"),
)
FIELDS = (
    Field("reviews", "product reviews", "商品评论"),
    Field("support", "customer support tickets", "客服工单"),
    Field("news", "news articles", "新闻报道"),
    Field("legal", "contracts and rulings", "合同与判决文书"),
    Field("medical", "clinical notes", "临床病历"),
    Field("finance", "financial reports", "财务报告"),
    Field("retail", "shop transactions", "零售交易"),
    Field("driving", "road scenes", "道路场景"),
    Field("factory", "production line images", "产线图像"),
    Field("maps", "addresses and places", "地址与地点"),
    Field("travel", "hotel and flight bookings", "酒店与机票预订"),
    Field("music", "songs and playlists", "歌曲与歌单"),
    Field("video", "short videos", "短视频"),
    Field("education", "exercises and essays", "习题与作文"),
    Field("telecom", "call centre recordings", "呼叫中心录音"),
    Field("energy", "meter readings", "电表读数"),
    Field("ads", "advertisements", "广告素材"),
    Field("social", "social media posts", "社交媒体帖子"),
)
SIZES = ("tiny", "small", "base", "large", "xl")
CHANGES = (
    ("more training data", "增加训练数据"),
    ("longer training with a lower learning rate", "降低学习率并延长训练"),
    ("noisy labels cleaned", "清洗噪声标签"),
    ("distilled from the larger model", "由更大的模型蒸馏而来"),
    ("new tokenizer", "更换分词器"),
    ("hard negatives added", "加入难负样本"),
    ("weekly refresh", "每周例行更新"),
    ("fixes the regression on short inputs", "修复短输入上的退化"),
    ("quantisation-aware fine-tuning", "量化感知微调"),
    ("adapters merged", "合并适配器"),
)
REASONS = (
    ("better description", "完善描述"),
    ("metrics of the second test set", "补充第二测试集指标"),
    ("labels cleaned up", "整理标签"),
    ("owner has changed", "变更负责人"),
)


@dataclass(frozen=True)
class Subject:
    """A model as its team sees it."""

    name: str
    task: Task
    field: Field
    size: str
    chinese: bool
    team: tuple[str, ...]
    framework: str
    licence: str

    def say(self, english: str, chinese: str) -> str:
        """The text in the team's language."""
        return chinese if self.chinese else english


def subjects(rng: Random, count: int) -> list[Subject]:
    """``count`` models with names of their own, in no order."""
    kinds = list(product(TASKS, FIELDS, SIZES))
    rng.shuffle(kinds)
    made = []
    for index in range(count):
        task, field, size = kinds[index % len(kinds)]
        again = f"-r{index // len(kinds) + 1}" if index >= len(kinds) else ""
        made.append(
            Subject(
                name=f"{task.slug}-{field.slug}-{size}{again}",
                task=task,
                field=field,
                size=size,
                chinese=rng.random() < CHINESE_SHARE,
                team=tuple(rng.sample(ACTORS, rng.randint(1, 4))),
                framework=rng.choice(FRAMEWORKS),
                licence=rng.choice(LICENCES),
            )
        )
    return made


def facts(rng: Random, subject: Subject, change: Sequence[str], number: int) -> dict[str, object]:
    """What is said when version ``number`` is pushed, as ``push`` takes it."""
    task, field = subject.task, subject.field
    score = 1 - 0.4 / (1 + number / 8) - rng.uniform(0, 0.05)
    learning_rate = rng.choice((1e-5, 2e-5, 5e-5, 1e-4))
    epochs = rng.randint(1, 12)
    return {
        "title": subject.say(
            f"{task.english.capitalize()} for {field.english} ({subject.size})",
            f"{field.chinese}{task.chinese}模型（{subject.size}）",
        ),
        "description": subject.say(
            f"A {subject.size} model for {task.english}, trained on {field.english} for {epochs} "
            f"epochs at a learning rate of {learning_rate:g}. Version {number}: {change[0]}. "
            f"It reaches a {task.metric} of {score:.3f} on the held-out month.",
            f"用于{field.chinese}的{task.chinese}模型，规模为{subject.size}，训练{epochs}轮，"
            f"学习率{learning_rate:g}。第{number}版：{change[1]}。"
            f"在留出月份上的{task.metric}为{score:.3f}。",
        ),
        "owner": subject.team[0],
        "framework": subject.framework,
        "licence": subject.licence,
        "labels": [field.slug, subject.size, subject.say("english", "中文")],
        "datasets": [f"{field.slug}-{2023 + number % 3}q{1 + rng.randrange(4)}"],
        "params": {
            "learning_rate": learning_rate,
            "epochs": epochs,
            "batch_size": 2 ** rng.randint(4, 10),
            "mixed_precision": rng.random() < 0.8,
            "optimizer": rng.choice(("adamw", "adamw", "lion", "adafactor")),
        },
        "metrics": {task.metric: round(score, 4), "loss": round(2 * (1 - score), 4)},
    }


def amendment(rng: Random, subject: Subject) -> dict[str, object]:
    """What an edit changes afterwards, as ``edit`` takes it."""
    tested_on = rng.choice(FIELDS)
    return {
        "labels": [subject.field.slug, subject.size, rng.choice(("reviewed", "候选", "archived"))],
        "owner": rng.choice(subject.team),
        "metrics": {f"{tested_on.slug}_{subject.task.metric}": round(rng.uniform(0.4, 0.9), 4)},
    }
