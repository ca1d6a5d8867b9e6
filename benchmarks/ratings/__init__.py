"""Networks and judges that rate generated videos: VisionReward, VideoReward, VideoScore."""
