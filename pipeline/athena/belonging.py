"""Whether the settings of a lake belong together: a database answers with the rows of the lake that it was made for."""

from botocore.exceptions import BotoCoreError, ClientError

from pipeline import aws, bucket
from pipeline.settings import ServiceError, Settings


def check(settings: Settings) -> None:
    """Raise ServiceError where the database's tables read another bucket or prefix than the settings name. Silent where
    that cannot be known: without S3_BUCKET, without tables, or without the right to look at them.
    """
    if not settings.s3_bucket:
        return
    glue = aws.client(settings, "glue")
    try:
        table = glue.get_table(DatabaseName=settings.glue_database, Name="raw_bars")["Table"]
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, BotoCoreError) or aws.cure(error):
            with aws.naming("GLUE_DATABASE", settings.glue_database):
                raise
        return  # whoever reads the tables next will say it
    if mistake := mistake_of(settings, str(table.get("StorageDescriptor", {}).get("Location", ""))):
        raise ServiceError(mistake)


def mistake_of(settings: Settings, location: str) -> str:
    """Return what is wrong where raw_bars reads this s3:// folder; empty if it is the settings' own."""
    folder = bucket.raw_folder("", "bars")
    own = f"s3://{settings.s3_bucket}/{settings.s3_root}"
    other = location.rstrip("/") + "/"
    if other == f"{own}{folder}" or not other.endswith(f"/{folder}"):
        return ""
    return (
        f"GLUE_DATABASE={settings.glue_database}: its tables read the lake {other.removesuffix(folder)}, and S3_BUCKET "
        f"and S3_PREFIX say {own}. They belong together: --env NAME (STOCK_ENV) derives all names of a lake, or set "
        "GLUE_DATABASE and ATHENA_WORKGROUP to those of this lake"
    )
