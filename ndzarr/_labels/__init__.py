"""Labels in other forms than kwcoco's become a kwcoco dataset."""
