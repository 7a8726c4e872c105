"""A logger plugin of Snakemake: what happens to the jobs of a run, one JSON object a line."""

import json
import sys
from dataclasses import dataclass, field
from logging import FileHandler, LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

EVENTS = (LogEvent.JOB_INFO, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.JOB_FINISHED)
FIELDS = (
    *("event", "rule_name", "jobid", "job_id", "wildcards", "input", "output", "log", "threads"),
    *("rule_msg", "aux", "aux_logs", "external_jobid", "job_error_info"),
)


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Snakemake's option --logger-jobs-file."""

    file: str = field(default="", metadata={"help": "file to write", "required": True})


class LogHandler(LogHandlerBase, FileHandler):
    """Writes the command's words first, then EVENTS, each with those of FIELDS that it has."""

    settings: LogHandlerSettings
    writes_to_file = has_filter = has_formatter = True
    writes_to_stream = needs_rulegraph = False
    emit = FileHandler.emit

    def __post_init__(self) -> None:
        command = json.dumps({"event": "command", "words": sys.argv})
        Path(self.settings.file).write_text(f"{command}\n", encoding="utf-8")
        FileHandler.__init__(self, self.settings.file, encoding="utf-8")

    def filter(self, record: LogRecord) -> bool:
        """Whether it tells of a job."""
        return getattr(record, "event", None) in EVENTS

    def format(self, record: LogRecord) -> str:
        """A line of JSON."""
        fields = {name: value for name, value in vars(record).items() if name in FIELDS}
        return json.dumps(fields, default=str)
