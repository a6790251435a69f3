"""How are windows read from a video that stays in its container?"""
