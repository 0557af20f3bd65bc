"""Search kept in step with the log, every hour, by Airflow 2.4 or later."""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.operators.bash import BashOperator

with DAG(
    "modelhub_reindex",
    schedule="17 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
):
    BashOperator(
        task_id="reindex",
        bash_command="modelhub --hub prod --format json admin reindex --scheduled",
        env={"MODELHUB_CONFIG": "/etc/modelhub/modelhub.toml"},
        append_env=True,
        skip_on_exit_code=5,  # another run is under way
    )
