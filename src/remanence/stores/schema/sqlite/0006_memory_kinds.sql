-- Notes and blocks of a place are few among its episodes; blocks are asked for before every call of a model.
CREATE INDEX memories_but_episodes ON memories (place, recorded_at) WHERE kind <> 'episode';
