import psycopg2, pytest, uuid, os
@pytest.fixture
def database():
    base="host=127.0.0.1 port=14999 user=postgres"
    c=psycopg2.connect(base+" dbname=postgres"); c.autocommit=True
    name="t"+uuid.uuid4().hex[:8]
    c.cursor().execute(f"create database {name}")
    yield base+f" dbname={name}"
    c.cursor().execute(f"drop database {name} with (force)")
