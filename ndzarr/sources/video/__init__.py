"""How do the frames of a video container become pixels?"""
