"""Learning Gen2Act's policy: data, models, training, export and closed-loop evaluation."""
